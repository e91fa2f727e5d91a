package main

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/warmlayer/warmlayer/bench"
)

// colors are those of the ways, in their order: greys for the others, and the project's own.
var colors = []color.Color{
	color.Gray{0x55}, color.Gray{0x88}, color.Gray{0xbb}, color.RGBA{0x8f, 0xb8, 0xde, 0xff},
	color.RGBA{0xe0, 0x7b, 0x39, 0xff}, color.RGBA{0xb0, 0x3a, 0x2e, 0xff},
}

// highest is where bars are cut, so that one which is many times as high as all others leaves them visible.
const highest = 1.5

const (
	barWidth = 14 * vg.Length(1)
	height   = 8 * vg.Centimeter
	width    = 22 * vg.Centimeter
)

// plotGroup writes the ratios to the reference as bars, a cluster for each scenario. A bar that is cut has its ratio above it. A way that was not
// measured in a scenario has no bar there.
func plotGroup(g bench.Group, file string) error {
	p := plot.New()
	p.Y.Label.Text = "time, buildx = 1"
	p.Y.Min = 0
	p.Legend.Top = true
	names := scenarios(g)
	ways := waysOf(g)
	for i, way := range ways {
		values := make(plotter.Values, len(names))
		var cut plotter.XYLabels
		for j, scenario := range names {
			ratio := g.Ratio(scenario, way, reference)
			if values[j] = min(ratio, highest); ratio > highest {
				cut.XYs = append(cut.XYs, plotter.XY{X: float64(j), Y: highest})
				cut.Labels = append(cut.Labels, fmt.Sprintf("%.0f ×", ratio))
			}
		}
		bars, err := plotter.NewBarChart(values, barWidth)
		if err != nil {
			return err
		}
		bars.LineStyle.Width = 0
		bars.Color = colors[i%len(colors)]
		bars.Offset = barWidth * (vg.Length(i) - vg.Length(len(ways)-1)/2)
		p.Add(bars)
		p.Legend.Add(way, bars)
		labels, err := plotter.NewLabels(cut)
		if err != nil {
			return err
		}
		labels.Offset = vg.Point{X: bars.Offset - barWidth}
		p.Add(labels)
	}
	p.NominalX(names...)
	p.X.Max += 1.5 // room for the legend
	return p.Save(width, height, file)
}
