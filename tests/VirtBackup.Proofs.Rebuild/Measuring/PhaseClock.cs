using System.Diagnostics;
using System.Globalization;
using VirtBackup.Repository;

namespace VirtBackup.Proofs.Rebuild.Measuring;

/// <summary>Divides the time of a rebuild among its phases: what passes until a figure grows belongs to that figure.</summary>
internal sealed class PhaseClock : IProgress<RebuildProgress>
{
    private static readonly (string Name, Func<RebuildProgress, long> Figure)[] Phases =
    [
        ("contents", static done => done.Records),
        ("nodes", static done => done.References),
        ("checks", static done => done.ReferencesChecked),
        ("rows", static done => done.Rows),
        ("points", static done => done.Points),
    ];

    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly double[] _seconds = new double[Phases.Length + 1];
    private readonly double[] _processor = new double[Phases.Length + 1];
    private double _told;
    private double _processorTold = Environment.CpuUsage.TotalTime.TotalSeconds;

    public RebuildProgress Done { get; private set; }

    /// <summary>Reading map nodes, and checking what they name.</summary>
    public double ReferenceSeconds => _seconds[1] + _seconds[2];

    /// <summary>Everything else.</summary>
    public double RowSeconds => _seconds.Sum() - ReferenceSeconds;

    /// <summary>The same of all processors together.</summary>
    public double ReferenceProcessorSeconds => _processor[1] + _processor[2];

    public double RowProcessorSeconds => _processor.Sum() - ReferenceProcessorSeconds;

    public void Report(RebuildProgress value)
    {
        var (now, processor) = (_clock.Elapsed.TotalSeconds, Environment.CpuUsage.TotalTime.TotalSeconds);
        var grown = Array.FindIndex(Phases, phase => phase.Figure(value) != phase.Figure(Done));
        var phase = grown < 0 ? Phases.Length : grown;
        _seconds[phase] += now - _told;
        _processor[phase] += processor - _processorTold;
        (_told, _processorTold, Done) = (now, processor, value);
    }

    /// <summary>The rebuild is over.</summary>
    public void Stop() => Report(Done);

    /// <summary>Seconds and processor seconds of each phase.</summary>
    public override string ToString() =>
        string.Join(", ", Phases.Select(static phase => phase.Name).Append("sorting").Select((name, i) => string.Create(CultureInfo.InvariantCulture, $"{name} {_seconds[i]:0.0}/{_processor[i]:0.0}")));
}
