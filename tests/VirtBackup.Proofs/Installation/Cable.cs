using VirtBackup.Core;

namespace VirtBackup.Proofs.Installation;

/// <summary>
/// The connection of one life of an agent with the controller. In bad weather messages are late or lost and streams are
/// cut, as chance has it; when the agent dies nothing passes any more.
/// </summary>
/// <param name="random">The weather.</param>
/// <param name="time">Delays pass in it.</param>
internal sealed class Cable(Random random, TimeProvider time)
{
    private const int DelayOneIn = 6;
    private const int LossOneIn = 40;
    private const int DelayMillisecondsMax = 3000;

    private readonly CancellationTokenSource _cut = new();

    /// <summary>Whether messages suffer.</summary>
    public bool IsBad { get; set; }

    /// <summary>The agent dies with so many more messages; null: it lives.</summary>
    public int? DiesAfter { get; set; }

    /// <summary>Called once, when the message of <see cref="DiesAfter"/> is due.</summary>
    public Action Died { get; set; } = static () => { };

    /// <summary>Cancelled when it is cut for good.</summary>
    public CancellationToken Dead => _cut.Token;

    /// <summary>Messages that were lost, and streams that were cut.</summary>
    public long Losses { get; private set; }

    public static FaultException Unreachable() => new(FaultReason.Unavailable, "The controller cannot be reached.");

    public void Cut() => _cut.Cancel();

    /// <summary>A message passes, or is lost.</summary>
    /// <exception cref="FaultException">It is lost.</exception>
    public async ValueTask PassAsync(CancellationToken cancellationToken)
    {
        RequireLife();
        if (!IsBad)
        {
            return;
        }
        if (random.Next(DelayOneIn) == 0)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(random.Next(1, DelayMillisecondsMax)), time, cancellationToken);
        }
        if (IsLost())
        {
            throw Unreachable();
        }
    }

    /// <summary>Whether a stream breaks with this message.</summary>
    public bool Breaks()
    {
        RequireLife();
        return IsBad && IsLost();
    }

    private bool IsLost()
    {
        var isLost = random.Next(LossOneIn) == 0;
        Losses += isLost ? 1 : 0;
        return isLost;
    }

    private void RequireLife()
    {
        if (DiesAfter is { } left)
        {
            DiesAfter = left - 1;
            if (left <= 0)
            {
                DiesAfter = null;
                Died();
            }
        }
        if (_cut.IsCancellationRequested)
        {
            throw Unreachable();
        }
    }
}
