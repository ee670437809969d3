"""Sample ids in, the encoded bytes of their images out: checked, counted, replaced where they are damaged."""
