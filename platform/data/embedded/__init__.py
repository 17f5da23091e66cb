"""Generators of the data sets that the project embeds: scenes of digits, printed glyphs and invented sentences."""
