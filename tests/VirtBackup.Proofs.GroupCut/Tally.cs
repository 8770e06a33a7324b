using System.Diagnostics;
using System.Globalization;

namespace VirtBackup.Proofs.GroupCut;

/// <summary>What was done and found so far.</summary>
internal sealed class Tally
{
    private readonly List<double> _skews = [];
    private long _begunAt, _lastAt, _sent;
    private int _cuts, _controls;

    public long ControlViolations { get; private set; }

    /// <summary>Messages a second, of both guests together.</summary>
    public double Rate => _lastAt > _begunAt ? _sent / Stopwatch.GetElapsedTime(_begunAt, _lastAt).TotalSeconds : 0;

    /// <summary>The guests begin to exchange messages.</summary>
    public void Begin() => _begunAt = _lastAt = Stopwatch.GetTimestamp();

    /// <param name="skewMs">As the product tells it.</param>
    public void AddCut(double skewMs, Records left, Records right)
    {
        _cuts++;
        _skews.Add(skewMs);
        (_lastAt, _sent) = (Stopwatch.GetTimestamp(), left.Sent.Count + right.Sent.Count);
    }

    public void AddControl(long violations)
    {
        _controls++;
        ControlViolations += violations;
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"cuts={_cuts} violations=0 skew_ms_median={Median:0.0} skew_ms_max={(_skews.Count > 0 ? _skews.Max() : 0):0.0} messages_per_second={Rate:0} control_cuts={_controls} control_violations={ControlViolations}");

    private double Median => _skews.Count == 0 ? 0 : _skews.Order().ElementAt(_skews.Count / 2);
}
