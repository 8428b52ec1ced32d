from .settings import Engine as Engine
