"""True searches in child processes, hurt as unwatched days hurt them; `invariants` judges what is left."""
