using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>What one move came to. Seconds.</summary>
/// <param name="Seen">From outside: between the last moment at which the machine ran in the old place and the first at which it ran in the new one.</param>
internal sealed record Moved(bool Cold, double Seen, double Told, double P50, double P90, int Rounds, double Elapsed);

/// <summary>Moves to and fro under a steady load, watched from outside.</summary>
internal sealed class DowntimeTrials : IAsyncDisposable
{
    public const string ShortClaim = "short-claim";
    public const string Unscored = "unscored";

    private const int Stage = 2, Content = 3;
    private const int LongDiskBytes = 512 << 20, ShortDiskBytes = 160 << 20;
    private const int WriteBytesMax = 64 << 10;

    /// <summary>The order to stop comes before the stop, and looking takes time.</summary>
    private const double Before = 4;

    private const double ClaimedLess = 10;

    private static readonly TimeSpan LookInterval = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan AskInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan WriteInterval = TimeSpan.FromMilliseconds(100);

    private readonly ProofOptions _options;
    private readonly Hosts _hosts;
    private readonly List<Moved> _moves = [];

    private DowntimeTrials(ProofOptions options, Hosts hosts) => (_options, _hosts) = (options, hosts);

    /// <summary>The short form runs beside other things, and looks late.</summary>
    private double Behind => _options.Short ? 3 : 1;

    public string Figures => string.Create(CultureInfo.InvariantCulture,
        $"warm={Median(false, static move => move.Seen):0.0}s told={Median(false, static move => move.Told):0.0}s predicted={Median(false, static move => move.P50):0.0}..{Median(false, static move => move.P90):0.0}s "
        + $"within_p90={_moves.Count(static move => move.Told <= move.P90)}/{_moves.Count} cold={Median(true, static move => move.Seen):0.0}s cold_predicted={Median(true, static move => move.P50):0.0}..{Median(true, static move => move.P90):0.0}s");

    public static async Task<DowntimeTrials> PrepareAsync(ProofOptions options, CancellationToken cancellationToken) =>
        new(options, await Hosts.StartAsync(options.Short ? ShortDiskBytes : LongDiskBytes, options.RandomOf(0, Stage), cancellationToken));

    public async Task RunAsync(int trial, CancellationToken cancellationToken)
    {
        foreach (var cold in new[] { false, true })
        {
            var move = await MoveAsync((2 * trial) + (cold ? 1 : 0), cold, cancellationToken);
            _moves.Add(move);
            if (!_options.Short) Console.WriteLine($"trial {trial}: {move}");
            if (move.Told < move.Seen - Behind || move.Told > move.Seen + Before)
            {
                throw new RefutedException($"a {(cold ? "cold" : "warm")} move interrupted for {move.Seen:0.0} s as seen from outside, and {move.Told:0.0} s is told");
            }
            if (move.P50 <= 0 || move.P90 < move.P50) throw new RefutedException($"a {(cold ? "cold" : "warm")} move was not predicted: {move}");
        }
    }

    /// <summary>The claims about all of them: not of the short form, whose two moves of a small disk are anybody's.</summary>
    public void Judge()
    {
        if (_options.Short) return;
        var (warm, cold) = (Median(false, static move => move.Seen), Median(true, static move => move.Seen));
        if (warm >= cold) throw new RefutedException($"warm moves interrupt for {warm:0.0} s, cold ones for {cold:0.0} s");
        var within = _moves.Count(static move => move.Told <= move.P90);
        if (within < 0.7 * _moves.Count) throw new RefutedException($"only {within} of {_moves.Count} moves were within the P90 that was predicted");
    }

    public ValueTask DisposeAsync() => _hosts.DisposeAsync();

    private async Task<Moved> MoveAsync(int number, bool cold, CancellationToken cancellationToken)
    {
        var random = _options.RandomOf(number, Content);
        var (migration, folder) = await _hosts.BeginAsync(number, cold, "--remove-source", "--yes");
        var clock = Stopwatch.StartNew();
        double? lastSeen = null, firstSeen = null;
        var written = TimeSpan.Zero;
        var (asked, asking) = (TimeSpan.Zero, Task.FromResult<JsonElement>(default));
        while (firstSeen is null)
        {
            if (clock.Elapsed > TimeSpan.FromMinutes(10)) throw new RefutedException("a move is at no end after ten minutes");
            // Beside the looks, which must not wait for it.
            if (asking.IsCompleted && clock.Elapsed - asked >= AskInterval)
            {
                RequireNotFailed(await asking);
                (asked, asking) = (clock.Elapsed, _hosts.ShowAsync(migration));
            }
            // In the old place, until it does not run there any more; then in the new one.
            if (await _hosts.Machine.ReadStatusAsync(cancellationToken) == "running")
            {
                if (_hosts.Machine.Home == folder)
                {
                    firstSeen = clock.Elapsed.TotalSeconds;
                    break;
                }
                lastSeen = clock.Elapsed.TotalSeconds;
                if (clock.Elapsed - written >= WriteInterval)
                {
                    written = clock.Elapsed;
                    await WriteAsync(random, cancellationToken);
                }
            }
            // A monitor that does not answer in time says nothing; a process in the new place does.
            else if (_hosts.Machine.Home != folder && lastSeen is not null && RestoredVm.ProcessesNaming(folder + "/").Count > 0)
            {
                _hosts.Machine.MovedTo(folder);
            }
            await Task.Delay(LookInterval, cancellationToken);
        }
        RequireNotFailed(await asking);
        JsonElement done;
        while ((done = await _hosts.ShowAsync(migration)).GetProperty("state").GetString() == "running") await Task.Delay(LookInterval, cancellationToken);
        RequireNotFailed(done);
        _hosts.Place = _hosts.Other;
        if (!await _hosts.Machine.HoldsWhatWasWrittenAsync(cancellationToken))
        {
            // The last write was ordered when the machine was seen to run, and may have come after its stop.
            _hosts.Machine.ForgetLastWrite();
            if (!await _hosts.Machine.HoldsWhatWasWrittenAsync(cancellationToken)) throw new RefutedException("the disk does not hold what was written to it");
        }
        var result = done.GetProperty("result");
        var predicted = result.GetProperty("interruption");
        var told = result.GetProperty("downtime_seconds").GetDouble();
        return new Moved(
            cold, firstSeen.Value - lastSeen!.Value, _options.Sabotage == ShortClaim ? told - ClaimedLess : told,
            _options.Sabotage == Unscored || predicted.ValueKind == JsonValueKind.Null ? 0 : predicted.GetProperty("p50_seconds").GetDouble(),
            _options.Sabotage == Unscored || predicted.ValueKind == JsonValueKind.Null ? 0 : predicted.GetProperty("p90_seconds").GetDouble(),
            result.GetProperty("rounds").GetArrayLength(), result.GetProperty("elapsed_seconds").GetDouble());
    }

    private static void RequireNotFailed(JsonElement shown)
    {
        if (shown.ValueKind != JsonValueKind.Undefined && shown.GetProperty("state").GetString() is not ("running" or "succeeded"))
        {
            throw new RefutedException($"a move did not succeed: {shown.GetProperty("failure").GetString()}");
        }
    }

    // One that comes too late for the machine was not written, and is not remembered.
    private async Task WriteAsync(Random random, CancellationToken cancellationToken)
    {
        try
        {
            await _hosts.Machine.WriteAsync(random, WriteBytesMax, cancellationToken);
        }
        catch (Exception gone) when (gone is IOException or System.Net.Sockets.SocketException or Testing.Lab.LabException)
        {
            // It stands still.
        }
    }

    private double Median(bool cold, Func<Moved, double> of)
    {
        var values = _moves.Where(move => move.Cold == cold).Select(of).Order().ToArray();
        return values.Length == 0 ? 0 : values[values.Length / 2];
    }
}
