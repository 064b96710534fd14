"""Searches, from drawn networks to the best one's recipe.

`candidates`, `settings`, `study`, `store`, `trial`, `workers`, `statistics` and `report` serve any
search, and `budgets` names their sizes. `redistribution` is SCRFD's (sec. 4.2), with its `space`,
`sampling` and `cost`; `autofem` is ASFD's, with `bilevel`, `supernet` and `choices`.
"""
