from mpflow.authoring.task import Task
class GetItem(Task):
    def run(self, task_result, key):
        return task_result[key]
