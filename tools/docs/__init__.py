"""What makes and checks the documentation: links, the site, the pages of methods, the model zoo."""
