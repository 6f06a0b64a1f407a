"""The bundled TorchScript networks, each with its model card."""
