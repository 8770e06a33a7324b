namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>
/// Seeds that once failed, and what was wrong; every run begins with them. A change of what seeds decide moves a defect to
/// another seed: look it up again with the defect planted, or give it a test of its own.
/// </summary>
internal static class Regressions
{
    public static readonly (ulong Seed, int Trial, string What)[] All =
    [
        (20261126, 555, "a collection stored the one record of a rotten pack anew under its name, and the checker still took it for rotten"),
        (77, 42, "the only visible point was forgotten beside a scrub, and the checker wanted to restore one in the end all the same"),
        (77, 648, "of a rotten pack some records were in doubt, so that it stayed where it was, and the checker took all of it for lost"),
        (78, 279, "a copy that waits to be deleted heals nothing, and the checker counted on it"),
        (10982737848967544684, 209, "the power failed between the enrolments of two agents, and the second was not enrolled any more"),
        (81, 3959, "a second attempt began to capture a point that the first had committed without an answer"),
    ];
}
