<STDIN>;
my %h;
for my $i (1 .. 60) { $h{"k$i"} = [$i, 'v' x ($i % 50), { a => $i }]; }
my @sorted = sort { $h{$a}[0] <=> $h{$b}[0] } keys %h;
sub nested { my ($n) = @_; return $n ? (nested($n - 1), "x$n") : () }
my @nested = nested(12);
my $text = join ',', map { s/k(\d+)/<$1>/r } @sorted;
my @matches = $text =~ /(<\d+>)/g;
eval { die { code => 5 } };
eval "sub made { my \$x = shift; return sprintf('%05d', \$x) . 'y' } 1";
my @made = map { made($_) } 1 .. 20;
my $object = bless { list => [map { { n => $_ } } 1 .. 20] }, 'Thing';
sub Thing::sum { my $self = shift; my $sum = 0; $sum += $_->{n} for @{ $self->{list} }; return "$sum" }
print scalar(@matches), $text, $object->sum, pack('N*', 1 .. 50), reverse('a' .. 'zz');
