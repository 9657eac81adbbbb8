"""How a conversation stands on a page: messages, pages of them, forms, files."""
