"""Judge rankers on tables of measured scores: whole searches in memory, and predictions without a search.

`tasks` is what is searched, `methods` makes the searches by name (the product's own in `product`, the usual ones in
`classics` and `optimizers`, surrogates for the product's pools in `yardsticks`), `trials` runs one search, `runner`
runs all of them on all cores, `statistics` compares, `report` and `plot` show. `skill` judges predictions alone.
"""
