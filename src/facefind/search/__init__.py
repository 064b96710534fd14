"""Searches, from drawn networks to the best one's recipe.

`candidates`, `settings`, `study`, `store`, `trial`, `workers`, `statistics` and `report` serve any
search; `redistribution` is SCRFD's (sec. 4.2), with its `space`, `sampling`, `cost` and `budgets`.
"""
