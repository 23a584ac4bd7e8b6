"""What travels with a model: run a TFLite file by its decode contract.

Needs NumPy, OpenCV and LiteRT, nothing of the project; the module `pyfunc` alone needs MLflow too.
"""
