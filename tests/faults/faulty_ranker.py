"""``python faulty_ranker.py SEARCH.toml``: the search of a file, with a ranker that does something else each time."""

import dataclasses
import sys
import threading
from pathlib import Path

import numpy as np

from ncode_search.agent.errors import HistoryUnavailableError, InputError
from ncode_search.agent.ranking.base import RankerInfo
from ncode_search.agent.search import Search
from ncode_search.agent.search_file import SearchFile


class FaultyRanker:
    """Raises, gives no numbers, too few, other things, and at last stalls for ever."""

    info = RankerInfo("faulty")

    def __init__(self) -> None:
        self._asked = 0

    def load(self) -> None:
        pass

    def score(self, known, pool, rng):
        self._asked += 1
        if self._asked == 1:
            return pool.sum(axis=1).astype(float)
        if self._asked == 2:
            raise MemoryError("no room for the context")
        if self._asked == 3:
            return np.full(len(pool), np.nan)
        if self._asked == 4:
            return np.zeros(len(pool) - 1)
        if self._asked == 5:
            return None
        threading.Event().wait()
        return None

    def close(self) -> None:
        pass


def main() -> None:
    try:
        file = SearchFile.load(Path(sys.argv[1]))
        Search(
            file.space,
            history=file.history,
            evaluator=file.evaluator,
            ranker=FaultyRanker(),
            ranker_settings=file.ranker,
            folder=file.path.parent,
            **dataclasses.asdict(file.settings),
        ).run()
    except InputError as error:
        print(f"ncode: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, HistoryUnavailableError) else 2)


if __name__ == "__main__":
    main()
