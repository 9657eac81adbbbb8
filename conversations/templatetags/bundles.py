"""`{% bundle 'inbox.css' %}`: the URL of a bundle of scripts or style sheets."""

from django.template import Library

from conversations.screen import bundles

register = Library()
register.simple_tag(bundles.url, name="bundle")
