namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Room for running states that are about to be saved: machines that are captured at once must not count the same free bytes. What is
/// promised counts until its state is saved, when the free space tells it. Safe for concurrent use.
/// </summary>
internal sealed class StateRoom
{
    private readonly Lock gate = new();
    private long promised;

    /// <summary>Promises room, until the result is disposed.</summary>
    /// <param name="bytes">That the state may take.</param>
    /// <param name="spare">That must be left besides.</param>
    /// <param name="measure">Tells the free bytes.</param>
    /// <param name="free">What is free and promised to nobody.</param>
    /// <returns>Null: there is too little.</returns>
    public IDisposable? TryTake(long bytes, long spare, Func<long> measure, out long free)
    {
        lock (gate)
        {
            free = Math.Max(0, measure() - promised);
            if (free < bytes + spare)
            {
                return null;
            }
            promised += bytes;
        }
        return new Promise(this, bytes);
    }

    private sealed class Promise(StateRoom room, long bytes) : IDisposable
    {
        private long left = bytes;

        public void Dispose()
        {
            lock (room.gate)
            {
                room.promised -= left;
                left = 0;
            }
        }
    }
}
