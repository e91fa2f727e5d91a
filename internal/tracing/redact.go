package tracing

import (
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// hide redacts every text of some spans except IDs and keys.
func hide(g *tracepb.ResourceSpans, redact func(string) string) {
	hideAll(g.Resource.GetAttributes(), redact)
	for _, scope := range g.ScopeSpans {
		for _, s := range scope.Spans {
			s.Name = redact(s.Name)
			hideAll(s.Attributes, redact)
			if s.Status != nil {
				s.Status.Message = redact(s.Status.Message)
			}
			for _, e := range s.Events {
				e.Name = redact(e.Name)
				hideAll(e.Attributes, redact)
			}
		}
	}
}

func hideAll(attributes []*commonpb.KeyValue, redact func(string) string) {
	for _, a := range attributes {
		hideValue(a.Value, redact)
	}
}

func hideValue(v *commonpb.AnyValue, redact func(string) string) {
	switch value := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		value.StringValue = redact(value.StringValue)
	case *commonpb.AnyValue_ArrayValue:
		for _, one := range value.ArrayValue.GetValues() {
			hideValue(one, redact)
		}
	}
}
