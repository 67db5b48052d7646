"""The round loop and the Flower grids that it runs over."""
