"""Fashion-MNIST: small images of clothes in ten classes (Xiao, Rasul and Vollgraf 2017, MIT licence)."""
