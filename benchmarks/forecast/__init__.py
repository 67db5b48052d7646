"""Fits and checks the forecast that ships with fedkt: ``made``, ``runs``, ``fitting``; see ``__main__``."""
