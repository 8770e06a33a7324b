using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Groups;

/// <summary>What jobs have to do with the cut of their group. Quick, and safe for concurrent use; jobs of no group are passed over.</summary>
internal interface ICutSteps
{
    /// <summary>What all members of the job's group have reached.</summary>
    CutStep FindPassed(Id16 jobId);

    void Reach(Id16 jobId, CutStep step, bool held);

    void End(JobRow job);
}
