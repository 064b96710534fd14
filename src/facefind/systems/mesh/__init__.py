"""The dense regression branch of RetinaFace: mesh decoder, camera, light, renderer, loss."""
