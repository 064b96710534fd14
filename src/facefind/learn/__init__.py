"""What training needs: targets, assigners, losses, augmentation, loading, engine, checkpoints."""
