//go:build ignore

package flate

import (
	"io"
	"slices"
	"sync"
)

// parallel compresses segments of a stream beside each other, to the same bytes as one compressor makes of the whole.
//
// What a compressor of level 4 or more does at a position follows from its state there: the match and the literal that are
// pending, where its window begins, and the content of the 32 KiB before it, of which its hash chains are made. So the
// compressor of a segment starts some blocks early, with nothing behind it, and is soon in the state of the one that comes
// from the front: matches end where the content says. The states of both are compared at the ends of two blocks. From where
// they are equal the tokens of the later one are taken. Where they are not, as in a long run of one byte, the former one goes on
// through the segment. Blocks of the output consist of a fixed number of tokens, and are encoded one after another.
type parallel struct {
	huffman *huffmanBitWriter
	level   int
	body    int // bytes of a segment, a multiple of blockSize
	ahead   int // segments that are compressed at once

	filling *segment
	queue   []*segment // compressed, or being compressed
	last    *segment   // whose tokens are taken up to the next one's
	from    mark       // of last: before it, tokens are taken

	tokens []token // of the output's next block
	shifts []int   // where windows moved, since the one in which the output's next block begins
	window int     // where the window of that block begins
	pos    int     // up to where tokens are taken
	block  int     // where the output's next block begins
}

// A window begins at a multiple of blockSize.
const (
	blockSize = windowSize
	lead      = 3 * blockSize // of a segment's content comes before it: the first block for the content of stored blocks
	warmUp    = 2 * blockSize
	overlap   = blockSize
)

// segment is a part of the stream, with the lead before it and the overlap behind it. The first one has no lead.
type segment struct {
	start   int    // of content, in the stream
	lead    int    // bytes of content
	content []byte // up to lead + body + overlap
	cuts    []int  // ends of writes that matter, in content

	done       chan struct{}
	d          *compressor
	tokens     []token
	head, tail [2]mark
}

// mark is the state of a compressor at the end of a block, and what it has made so far.
type mark struct {
	state          state
	tokens, shifts int
}

type state struct {
	index, window, end int // in the stream
	length, offset     int
	pending            bool // a literal
}

func newParallel(w io.Writer, level, body, ahead int) *parallel {
	return &parallel{huffman: newHuffmanBitWriter(w), level: level, body: body, ahead: ahead, filling: &segment{}}
}

func (p *parallel) write(b []byte) error {
	for len(b) > 0 {
		s := p.filling
		n := min(len(b), s.lead+p.body+overlap-len(s.content))
		s.content = append(s.content, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			s.cut()
		}
		if len(s.content) == s.lead+p.body+overlap {
			if err := p.next(); err != nil {
				return err
			}
		}
	}
	return p.huffman.err
}

// cut notes the end of a write. Such an end stops a compressor until there is more, and its window moves
// when it stops near the window's end. Elsewhere a stop changes nothing.
func (s *segment) cut() {
	if n := len(s.content); n%blockSize > blockSize-minMatchLength-maxMatchLength {
		s.cuts = append(s.cuts, n)
	}
}

// next begins to compress the segment that is full, and another segment.
func (p *parallel) next() error {
	full := p.filling
	from := full.lead + p.body - lead
	p.filling = &segment{start: full.start + from, lead: lead}
	p.filling.content = append(make([]byte, 0, lead+p.body+overlap), full.content[from:]...)
	for _, cut := range full.cuts {
		if cut > from {
			p.filling.cuts = append(p.filling.cuts, cut-from)
		}
	}
	p.begin(full, false)
	if len(p.queue) < p.ahead {
		return nil
	}
	return p.take()
}

func (p *parallel) begin(s *segment, final bool) {
	s.done = make(chan struct{})
	p.queue = append(p.queue, s)
	go func() {
		defer close(s.done)
		s.compress(p.level, p.body, final)
	}()
}

func (p *parallel) close() error {
	p.begin(p.filling, true)
	for len(p.queue) > 0 {
		if err := p.take(); err != nil {
			return err
		}
	}
	p.emit(p.last, p.last.end())
	p.encode(p.last)
	p.last.release()
	p.huffman.writeStoredHeader(0, true)
	p.huffman.flush()
	return p.huffman.err
}

// take adds the tokens of the last segment to the output, up to where those of the next one begin.
func (p *parallel) take() error {
	s := p.queue[0]
	p.queue = p.queue[1:]
	<-s.done
	last := p.last
	p.last = s
	if last == nil {
		return nil
	}
	for i, m := range s.head {
		if m.state == last.tail[i].state {
			p.emit(last, last.tail[i])
			last.release()
			p.from = m
			return p.huffman.err
		}
	}
	p.emit(last, last.end())
	p.from = mark{}
	s.release()
	s.goOn(last.d, p.body, s == p.filling)
	return p.huffman.err
}

// emit adds tokens of a segment to the output, from p.from up to the mark.
func (p *parallel) emit(s *segment, to mark) {
	p.shifts = append(p.shifts, s.d.shifts[p.from.shifts:to.shifts]...)
	for _, t := range s.tokens[p.from.tokens:to.tokens] {
		p.tokens = append(p.tokens, t)
		p.pos++
		if t >= matchType {
			p.pos += int(t.length()) + baseMatchLength - 1
		}
		if len(p.tokens) == maxFlateBlockTokens {
			p.encode(s)
		}
	}
}

// encode writes a block of the output, whose end is in a segment. A compressor can store the content as it is while that
// is in its window. The last token of a block is made at the content's last byte or, with a match, at the match's second one.
func (p *parallel) encode(s *segment) {
	if len(p.tokens) == 0 {
		return
	}
	at := p.pos
	if t := p.tokens[len(p.tokens)-1]; t >= matchType {
		at -= int(t.length()) + baseMatchLength - 1
	}
	moved := 0
	for moved < len(p.shifts) && p.shifts[moved] <= at {
		moved++
	}
	p.window += moved * windowSize
	p.shifts = slices.Delete(p.shifts, 0, moved)
	var content []byte
	if p.block >= p.window {
		content = s.content[p.block-s.start : p.pos-s.start]
	}
	p.huffman.writeBlock(p.tokens, false, content)
	p.tokens, p.block = p.tokens[:0], p.pos
}

var compressors sync.Pool

// compress makes the tokens of a segment, and the marks with which it is joined to its neighbours.
func (s *segment) compress(level, body int, final bool) {
	s.d, _ = compressors.Get().(*compressor)
	if s.d == nil {
		s.d = &compressor{}
		_ = s.d.init(io.Discard, level)
	} else {
		s.d.reset(io.Discard)
	}
	if level == DefaultCompression {
		level = 6
	}
	s.d.compressionLevel = levels[level]
	from := max(0, s.lead-warmUp)
	s.d.origin = s.start + from
	s.collect()
	if s.lead > 0 {
		for i, to := range []int{s.lead, s.lead + overlap} {
			s.head[i] = s.feed(from, to)
			from = to
		}
	}
	s.finish(from, body, final)
}

// goOn makes the tokens of a segment with the compressor of the one before, which has been fed with the overlap.
func (s *segment) goOn(d *compressor, body int, final bool) {
	s.d, s.tokens = d, s.tokens[:0]
	s.collect()
	s.finish(s.lead+overlap, body, final)
}

// release lets another segment have the compressor, which then keeps nothing of this one.
func (s *segment) release() {
	s.d.collect, s.d.shifts = nil, nil
	compressors.Put(s.d)
}

func (s *segment) collect() {
	s.d.shifts = nil
	s.d.collect = func(tokens []token) { s.tokens = append(s.tokens, tokens...) }
}

func (s *segment) finish(from, body int, final bool) {
	if !final {
		s.tail[0] = s.feed(from, s.lead+body)
		s.tail[1] = s.feed(s.lead+body, s.lead+body+overlap)
		return
	}
	s.feed(from, len(s.content))
	s.d.sync = true
	s.d.step(s.d)
}

// feed gives content to the compressor as the writes to the stream did, and returns its state behind it.
func (s *segment) feed(from, to int) mark {
	d := s.d
	for _, cut := range s.cuts {
		if cut > from && cut < to {
			_, _ = d.write(s.content[from:cut])
			from = cut
		}
	}
	_, _ = d.write(s.content[from:to])
	d.step(d)
	d.collect(d.tokens)
	d.tokens = d.tokens[:0]
	end := s.end()
	end.state = state{d.origin + d.index, d.origin, d.origin + d.windowEnd, d.length, d.offset, d.byteAvailable}
	if d.length < minMatchLength {
		end.state.offset = 0
	}
	return end
}

// end is what a segment's compressor has made.
func (s *segment) end() mark { return mark{tokens: len(s.tokens), shifts: len(s.d.shifts)} }
