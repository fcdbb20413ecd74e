"""The backend in C++, for maps on the CPU."""
