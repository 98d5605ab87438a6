"""What a parameter of device, circuit or mapping does to a whole network: grids of inferences."""
