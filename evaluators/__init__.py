"""Code that scores configurations. `base` has the contract; every other module is one kind of evaluator."""
