"""What runs show: differences with intervals, factors in parameters, a verdict, and how it is told and drawn."""
