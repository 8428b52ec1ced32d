from .player import Engine as Engine
