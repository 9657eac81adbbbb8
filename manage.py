#!/usr/bin/env python
"""Django's command line for Chatsite."""

import gc
import os
import platform
import sys

gc.disable()  # until all apps are loaded (chatsite/apps.py): a third less CPU for every command

PUBLIC = {"collectstatic", "compilemessages", "makemessages", "makemigrations"}  # what these write has no secrets


def open_streams() -> None:
    """Open those of stdin, stdout and stderr that are closed. Otherwise a socket would get the number of one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def main() -> None:
    """Run a management command. Wrong settings are one readable message, not a traceback."""
    open_streams()
    if sys.argv[1:] in (["version"], ["--version"]):  # instead of Django's own
        import django

        import chatsite

        print(f"Chatsite {chatsite.__version__} (Django {django.__version__}, Python {platform.python_version()})")
        return
    if not PUBLIC.intersection(sys.argv[1:2]):
        os.umask(0o077)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import DatabaseError, InterfaceError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Chatsite cannot start. {error}")
    except (DatabaseError, InterfaceError) as error:
        from chatsite.startup import explain

        sentence = explain(error, migrating=bool({"migrate", "--migrate"}.intersection(sys.argv)))
        if not sentence:
            raise
        sys.exit(sentence)


if __name__ == "__main__":
    main()
