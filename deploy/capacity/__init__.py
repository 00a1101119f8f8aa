"""How much of everything so many events need: a model of figures that were measured, and a simulation to check it."""
