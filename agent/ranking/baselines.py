# PROVISIONAL stand-in while the ranking helper works: overwrite this file.
import numpy as np
from ncode_search.agent.ranking.base import RankerInfo
class RandomRanker:
    info = RankerInfo("random")
    def load(self): pass
    def close(self): pass
    def score(self, known, pool, rng): return rng.random(len(pool))
class EvolutionRanker(RandomRanker):
    info = RankerInfo("evolution")
    def score(self, known, pool, rng):
        if not len(known): return rng.random(len(pool))
        n=len(known); lo=max(0,n-10)
        t=rng.choice(np.arange(lo,n),size=min(3,n-lo),replace=False)
        par=known.codes[t[np.argmax(known.values[t])]]
        return -(pool!=par).sum(1)+rng.random(len(pool))*0.5
