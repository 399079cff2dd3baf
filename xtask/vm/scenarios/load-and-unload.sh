for round in 1 2 3 4 5 6 7 8; do load; unload; done
