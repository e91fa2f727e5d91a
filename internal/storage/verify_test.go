package storage_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/storage"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	one := ocispecs.Descriptor{Digest: digest.FromString("one"), Size: 3}
	empty := ocispecs.Descriptor{Digest: digest.FromString("")}
	for name, test := range map[string]struct {
		content string
		desc    ocispecs.Descriptor
		good    bool
	}{
		"right":           {"one", one, true},
		"other content":   {"two", one, false},
		"cut off":         {"on", one, false},
		"nothing":         {"", one, false},
		"more":            {"one more", one, false},
		"other size":      {"one", ocispecs.Descriptor{Digest: one.Digest, Size: 4}, false},
		"empty":           {"", empty, true},
		"not empty":       {"one", empty, false},
		"empty, not none": {"", ocispecs.Descriptor{Digest: one.Digest}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for way, from := range map[string]io.Reader{
				"at once":           strings.NewReader(test.content),
				"byte by byte":      iotest.OneByteReader(strings.NewReader(test.content)),
				"with its end":      iotest.DataErrReader(strings.NewReader(test.content)),
				"through a wrapper": io.MultiReader(strings.NewReader(test.content)),
			} {
				var got bytes.Buffer
				_, err := io.Copy(&got, storage.Verify(from, test.desc))
				if test.good {
					if err != nil || got.String() != test.content {
						t.Errorf("%s: %q, %v", way, got.String(), err)
					}
				} else if !errors.Is(err, storage.ErrMismatch) {
					t.Errorf("%s: %q, %v", way, got.String(), err)
				}
			}
		})
	}
	broken := errors.New("disk error")
	if _, err := io.ReadAll(storage.Verify(iotest.ErrReader(broken), one)); !errors.Is(err, broken) {
		t.Errorf("an error of the reader: %v", err)
	}
}

// A reader of exactly the descriptor's size, which does not read to the end, gets no damaged copy.
func TestVerifyHoldsBack(t *testing.T) {
	t.Parallel()
	desc := ocispecs.Descriptor{Digest: digest.FromString("one"), Size: 3}
	for content, good := range map[string]bool{"one": true, "onf": false} {
		p := make([]byte, 3)
		n, err := io.ReadFull(storage.Verify(iotest.OneByteReader(strings.NewReader(content)), desc), p)
		if good != (err == nil) || !good && (n != 2 || !errors.Is(err, storage.ErrMismatch)) {
			t.Errorf("%s: %d bytes, %v", content, n, err)
		}
	}
}
