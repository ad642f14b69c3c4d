"""What our GPU kernels are measured beside: the usual ways, written as well as their libraries allow."""
