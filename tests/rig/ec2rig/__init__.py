"""A stand-in for EC2: moto's API in front, booted userlands behind. README.md explains its use."""
