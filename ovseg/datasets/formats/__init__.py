"""File formats read by their own structure: what a decoder gets is known to be whole and of a known layout."""
