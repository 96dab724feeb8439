"""Naive transcriptions of the formulas, and small made-up tasks; nothing here imports fewclip."""
