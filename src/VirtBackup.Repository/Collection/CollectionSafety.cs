using VirtBackup.Core;

namespace VirtBackup.Repository.Collection;

/// <summary>The times that must pass before anything is deleted, each with the race that it closes.</summary>
public sealed record CollectionSafety
{
    /// <summary>What users get.</summary>
    public static CollectionSafety Default { get; } = new();

    /// <summary>No waiting at all: for tests, and for a repository that nobody else uses at the moment.</summary>
    public static CollectionSafety None { get; } =
        new() { ForgottenFor = TimeSpan.Zero, UploadedFor = TimeSpan.Zero, CondemnedFor = TimeSpan.Zero, TrashedFor = TimeSpan.Zero, AllowsNone = true };

    /// <summary>
    /// A forgotten point can be brought back for so long, and keeps everything below it. Closes: a point forgotten by
    /// mistake, or by a rule that was set wrongly. At least 24 h.
    /// </summary>
    public TimeSpan ForgottenFor { get; init; } = TimeSpan.FromHours(24);

    /// <summary>
    /// Records that no point needs live so long after they were stored. Closes: an agent or controller that goes away
    /// during an upload, and a new session that builds on what was durable. At least as long as a session can be idle, and
    /// at least 24 h.
    /// </summary>
    public TimeSpan UploadedFor { get; init; } = TimeSpan.FromDays(7);

    /// <summary>
    /// An object is looked at twice, this long apart, and must be without reference both times; a probe that finds it in
    /// between lets it off. Closes: a session that relies on an object and is replaced by another one, which does not
    /// remember the probe: it has this long to commit. At least 24 h.
    /// </summary>
    public TimeSpan CondemnedFor { get; init; } = TimeSpan.FromHours(24);

    /// <summary>
    /// A pack that no row names any more stays in the store for so long. Closes: a reader that has planned its reads, and
    /// a defect of the collector that an audit finds. At least 24 h.
    /// </summary>
    public TimeSpan TrashedFor { get; init; } = TimeSpan.FromHours(24);

    private bool AllowsNone { get; init; }

    /// <summary>Makes sure that every time is long enough.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public void Validate()
    {
        Require(ForgottenFor, "a forgotten recovery point is kept");
        Require(UploadedFor, "an unreferenced upload is kept");
        Require(CondemnedFor, "a condemned record is kept");
        Require(TrashedFor, "a pack is kept in the trash");
    }

    private void Require(TimeSpan value, string what)
    {
        if (value < TimeSpan.FromHours(24) && !AllowsNone)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The time for which {what} must be at least 24 hours.");
        }
    }
}
