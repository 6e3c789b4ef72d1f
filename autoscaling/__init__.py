"""How many replicas the queue asks for."""
