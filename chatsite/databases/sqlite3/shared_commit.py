"""Several transactions of a thread that are committed together, because the disk takes as long for one as for many.

The thread pool runs posts that wait at the same moment one after the other, each in its own transaction. The first of
these really begins one, further ones are savepoints of it, and their commits wait. Then all of it is committed at once,
and only after that anybody is answered or rung. Django and the views notice nothing. Measured in docs/performance.md.
"""

import logging
from typing import Any

from django.db import DatabaseError
from django.db.backends.sqlite3 import base

logger = logging.getLogger(__name__)


class SharedCommit(base.DatabaseWrapper):
    """Django's backend, whose commits may wait: between `hold_commits` and `commit_held`."""

    is_holding = False
    is_shared = False
    """Whether a commit waits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Django's protocol for backends."""
        super().__init__(*args, **options)
        self.held_hooks: list[Any] = []

    def hold_commits(self) -> None:
        """From now on let commits wait for `commit_held`. From the first one on, nobody else can write.

        Nobody else sees what is written. Hooks wait too, so nobody is told of it.
        """
        self.is_holding = True

    @property
    def may_share(self) -> bool:
        """Whether a commit waits, to which other transactions may be added."""
        return self.is_shared and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether what waited is not there any more.

        SQLite rolls back by itself if it has no room or memory, at any statement; or the connection was closed.
        """
        return self.connection is None or not self.connection.in_transaction

    def commit_held(self) -> bool:
        """Commit what waits, and hold no more. False if that failed: then nothing of it is stored."""
        hooks, self.held_hooks = self.held_hooks, []
        was_shared, is_lost = self.is_shared, self.is_lost
        self.is_holding = self.is_shared = False
        if not was_shared:
            return True
        try:
            if is_lost:
                raise DatabaseError("it was rolled back")
            self.commit()
        except DatabaseError as error:
            logger.warning("Transactions that could not be committed together are run one by one: %s", error)
            self._drop()
            return False
        for _, hook, _ in hooks:
            try:
                hook()
            except Exception:  # all of it is stored, and the other hooks belong to other requests
                logger.exception("What was to happen after a commit has failed.")
        self.close_if_unusable_or_obsolete()
        return True

    def _drop(self) -> None:
        try:
            self.rollback()
        except DatabaseError:
            self.close()

    def _in_shared(self, *statements: str) -> None:
        with self.wrap_database_errors:
            if self.is_lost:
                raise self.Database.OperationalError("the transactions that share a commit were rolled back")
            for statement in statements:
                self.connection.execute(statement)

    def _start_transaction_under_autocommit(self) -> None:
        if self.is_shared:
            self._in_shared("SAVEPOINT shared")
        else:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs lack it

    def _commit(self) -> Any:
        if self.is_shared:
            return self._in_shared("RELEASE shared")
        if self.is_holding and self.connection is not None and self.connection.in_transaction:
            self.is_shared = True
            return None
        return super()._commit()  # type: ignore[misc]  # the stubs lack it

    def _rollback(self) -> Any:
        if self.is_shared:
            return self._in_shared("ROLLBACK TO shared", "RELEASE shared")
        return super()._rollback()  # type: ignore[misc]  # the stubs lack it

    def _set_autocommit(self, autocommit: bool) -> None:
        if not self.may_share:  # sqlite3 would commit
            super()._set_autocommit(autocommit)  # type: ignore[misc]  # the stubs lack it

    def on_commit(self, func: Any, robust: bool = False) -> None:
        """Call a function after the commit; at once if none waits."""
        if self.is_shared and not self.in_atomic_block:
            self.held_hooks.append((set(), func, robust))
        else:
            super().on_commit(func, robust)

    def run_and_clear_commit_hooks(self) -> None:
        """Call the functions that wait for the commit, unless it waits itself."""
        if self.is_shared:
            self.held_hooks += self.run_on_commit
            self.run_on_commit = []
        else:
            super().run_and_clear_commit_hooks()

    def close_if_unusable_or_obsolete(self) -> None:
        """Django calls this before and after each request. Do nothing while a commit waits."""
        if not self.is_shared:
            super().close_if_unusable_or_obsolete()
