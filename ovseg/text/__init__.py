"""Words in, text embeddings out: vocabularies, prompt templates and the text encoder."""

from ovseg.text.encoder import TextEncoder
from ovseg.text.templates import Templates, get_templates
from ovseg.text.vocabulary import Vocabulary, packaged_vocabularies

__all__ = ["TextEncoder", "Templates", "Vocabulary", "get_templates", "packaged_vocabularies"]
