"""Search: computation redistribution (SCRFD, sec. 4.2), from sampled networks to a recipe."""
