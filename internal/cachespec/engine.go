package cachespec

// InEngine tells whether the BuildKit inside a container engine has caches of the line's type. Without
// containerd's store of images it writes only inline ones, and reads them as images (moby v2.0.0-beta.24,
// daemon/internal/builder-next/controller.go).
func (c Cache) InEngine(containerd bool) bool {
	switch c.Config.(type) {
	case *Inline:
		return true
	case *Registry:
		return containerd || c.Input == From
	case *Local, *GHA:
		return containerd
	}
	return false
}
