"""What the customer's and the agents' pages share: message bubbles, paging, forms, uploads and files."""
