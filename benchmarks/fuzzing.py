def malformed(*a): raise NotImplementedError
