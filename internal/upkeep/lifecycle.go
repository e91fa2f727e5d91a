package upkeep

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// Lifecycle is a document of rules that let a service itself remove what no build uses: for S3 what PutBucketLifecycleConfiguration takes (Amazon S3 API),
// for Azure a management policy (Microsoft, "Configure a lifecycle management policy"). Builds renew the blobs that they use once in touch_refresh, and the
// manifest of a scope once a day, so a rule has to leave them a day more. ok is false for a cache that has no such rules.
func Lifecycle(c cachespec.Config, days int) (document []byte, ok bool, err error) {
	var touch time.Duration
	var rules any
	switch c := c.(type) {
	case *cachespec.S3:
		touch, rules = c.TouchRefresh, s3Lifecycle(c, days)
	case *cachespec.Azblob:
		touch, rules = c.TouchRefresh, azureLifecycle(c, days)
	default:
		return nil, false, nil
	}
	if least := touch + 2*24*time.Hour; time.Duration(days)*24*time.Hour < least {
		return nil, true, fmt.Errorf("%d days are too few: blobs that are in use get up to %s old before a build renews them, so give at least %d", days, touch, int((least+24*time.Hour-1)/(24*time.Hour)))
	}
	document, err = json.MarshalIndent(rules, "", "  ")
	return append(document, '\n'), true, err
}

func s3Lifecycle(c *cachespec.S3, days int) any {
	type m = map[string]any
	var rules []m
	for _, part := range []struct{ id, prefix string }{{"warmlayer-blobs", c.Blobs()}, {"warmlayer-manifests", c.Manifests()}} {
		rules = append(rules, m{
			"ID": part.id, "Status": "Enabled", "Filter": m{"Prefix": part.prefix}, "Expiration": m{"Days": days},
			"AbortIncompleteMultipartUpload": m{"DaysAfterInitiation": 1},
		})
	}
	return m{"Rules": rules}
}

func azureLifecycle(c *cachespec.Azblob, days int) any {
	type m = map[string]any
	prefixes := []string{c.Container + "/" + c.Blobs(), c.Container + "/" + c.Manifests()}
	return m{"rules": []m{{
		"name": "warmlayer", "enabled": true, "type": "Lifecycle",
		"definition": m{
			"filters": m{"blobTypes": []string{"blockBlob"}, "prefixMatch": prefixes},
			"actions": m{"baseBlob": m{"delete": m{"daysAfterModificationGreaterThan": days}}},
		},
	}}}
}
