"""The states of a trial and the moves between them."""

from __future__ import annotations

from enum import Enum


class TrialState(str, Enum):
    """Where a trial stands."""

    QUEUED = "queued"
    """Chosen and recorded; waits for a worker, for the first time or for another attempt."""
    RUNNING = "running"
    """A worker trains it, under a lease."""
    COMPLETE = "complete"
    """It has a value."""
    FAILED = "failed"
    """Every attempt failed; its code is not proposed again."""
    PRUNED = "pruned"
    """It was ended early, by its evaluator or by the search, which may go on with it; it has no final value."""

    @property
    def is_finished(self) -> bool:
        """Whether no worker has to do with the trial; of all these, only a pruned one may move again."""
        return self not in (TrialState.QUEUED, TrialState.RUNNING)


PREDECESSORS: dict[TrialState, tuple[TrialState, ...]] = {
    TrialState.QUEUED: (TrialState.RUNNING, TrialState.PRUNED),
    TrialState.RUNNING: (TrialState.QUEUED,),
    TrialState.COMPLETE: (TrialState.RUNNING,),
    TrialState.FAILED: (TrialState.RUNNING,),
    TrialState.PRUNED: (TrialState.RUNNING,),
}
"""The states that a trial may come from: the whole of the state machine."""

ACCEPTED_LATE = (TrialState.COMPLETE, TrialState.PRUNED)
"""Where a queued trial may go besides, by the attempt that was taken back, as long as no other was begun; and to
failed, where a caller tells an error."""
