"""What the customer's and the agents' pages share: message bubbles, links, paging, forms, uploads and files."""
