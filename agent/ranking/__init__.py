"""Rankers: who chooses among the candidates of a pool.

Importing this package does not import llama.cpp; loading a ``llama`` ranker does.
"""

from ncode_search.agent.ranking.base import Ranker, RankerInfo
from ncode_search.agent.ranking.diagnosis import llama_report
from ncode_search.agent.ranking.factory import RANKERS, make_ranker, ranker_of

__all__ = ["RANKERS", "Ranker", "RankerInfo", "llama_report", "make_ranker", "ranker_of"]
