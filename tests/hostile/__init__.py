"""Peers that mean harm, at the listener itself: each ends by its own bound, and nobody else notices."""
