variable "REGISTRY" { default = "ghcr.io/acme" }
variable "TAG" { default = "latest" }
variable "BASE" { default = "docker.io/library/busybox:1.37" }

# The images to push.
group "default" { targets = ["service"] }

# What all services are made from. It is no image of its own: no tag, no output.
target "tools" {
  context = "tools"
  args    = { BASE = BASE }
}

target "service" {
  name     = service
  matrix   = { service = ["api", "worker"] }
  context  = service
  contexts = { tools = "target:tools" }
  tags     = ["${REGISTRY}/${service}:${TAG}"]
  labels   = { "org.opencontainers.image.title" = service }
}
